"""The console's API: endpoints, each in the file of what it is about."""
