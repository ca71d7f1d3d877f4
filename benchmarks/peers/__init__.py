"""What sendcode is measured against, each as people commonly write it."""
