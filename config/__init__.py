"""Settings, names and connections that every part of sendcode shares."""


class SendcodeError(Exception):
    """What sendcode refuses or cannot do; its subclasses say which. Its text is fit to be shown."""
