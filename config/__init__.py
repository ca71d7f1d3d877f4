"""Settings, names and connections that every part of sendcode shares."""
