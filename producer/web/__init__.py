"""The HTTP door: codes and batches for backends in any language (`sendcode web`)."""
