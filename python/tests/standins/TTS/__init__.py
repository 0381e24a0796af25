"""A stand-in for Coqui's TTS."""
