"""Deepgram: streaming speech-to-text, first (Nova) and second (Flux) generation of its protocol."""
