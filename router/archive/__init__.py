"""What was handled, kept for a while, a line each. Nothing that is promised depends on it."""

from router.archive.shelf import Shelf
from router.archive.trace.again import Again, resend, resumed, words_of
from router.archive.trace.events import events
from router.archive.trace.finding import Match, matches, name_of, story_of
from router.archive.trace.happenings import AtTarget, LateAttempt, ToldCaller
from router.archive.trace.inventory import Inventory, inventory
from router.archive.trace.kept import KeptStory, kept
from router.archive.trace.question import Question, Word
from router.archive.trace.sources import Sources, TraceSource
from router.archive.trace.story import Acted, Missed, Next, Step, Story
from router.archive.writer import Archive

__all__ = [
    "Acted",
    "Again",
    "Archive",
    "AtTarget",
    "Inventory",
    "KeptStory",
    "LateAttempt",
    "Match",
    "Missed",
    "Next",
    "Question",
    "Shelf",
    "Sources",
    "Step",
    "Story",
    "ToldCaller",
    "TraceSource",
    "Word",
    "events",
    "inventory",
    "kept",
    "matches",
    "name_of",
    "resend",
    "resumed",
    "story_of",
    "words_of",
]
