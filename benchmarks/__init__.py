"""The measurements behind the figures in the documentation: `make bench ARGS=rate`."""
