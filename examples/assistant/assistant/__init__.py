"""A voice assistant: it listens, transcribes, answers and speaks.

Speech recognition and the language model share one GPU. `python -m assistant` starts everything.
"""

__version__ = "0.4.0"
