"""The exercises, a file a notebook: `nb03.py` holds those of notebook 03."""
