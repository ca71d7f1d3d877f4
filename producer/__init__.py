"""The ways in: a Python call, the command line, batches; and the view from outside."""
