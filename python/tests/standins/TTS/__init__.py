"""A stand-in for Coqui's TTS."""  # noqa: N999 - Coqui's name
