"""routes.yaml and the settings: read, checked, compared, tested, reloaded."""
