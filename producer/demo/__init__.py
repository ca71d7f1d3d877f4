"""`sendcode demo`: the whole system on this machine; `story.py` tells it in order."""
