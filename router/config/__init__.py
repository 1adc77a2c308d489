"""routes.yaml and the settings: read, checked, compared, tested, reloaded."""

from typing import TYPE_CHECKING

from router import on_demand

if TYPE_CHECKING:
    from router.config.cases import (
        Case,
        CaseBlind,
        Coverage,
        Difference,
        Verdict,
        beside,
        coverage,
        judge,
        parse_cases,
        tests_of,
    )
    from router.config.comparison import Change, Comparison, Group, Move
    from router.config.document import MAX_SIZE, parse_document, shown, write
    from router.config.edits import Detail, Edit, edits_of
    from router.config.effective import effective_of
    from router.config.explaining import (
        Explained,
        ExplainedField,
        ExplainedRoute,
        ExplainedTarget,
        RefusedEvent,
        explained,
        refused,
    )
    from router.config.files import Written, read
    from router.config.holders import DEEDS, Deed, Holder, Holders, load_holders
    from router.config.loading import Config, Look, Source, load, parse, parse_files
    from router.config.parts import formats_of
    from router.config.reload import LOOK_EVERY, Reload, Standing
    from router.config.schema import Name, document, is_own, legible_source
    from router.config.settings import (
        SETTINGS,
        VARIABLE_PREFIX,
        Settings,
        archive_folder,
        parse_count,
        parse_file,
        parse_host,
        parse_port,
    )
    from router.config.variables import Unresolved, Unset, Variables

__getattr__ = on_demand(__name__)
