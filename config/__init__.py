"""Settings, names and connections that every part of sendcode shares."""


class SendcodeError(Exception):
    """Base of all that sendcode refuses or cannot do. The text is fit to be shown."""
