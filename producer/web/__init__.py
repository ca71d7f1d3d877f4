"""The HTTP API for backends in any language, the console and metrics (`sendcode web`)."""
