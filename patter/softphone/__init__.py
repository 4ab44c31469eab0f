"""A telephone on this machine: microphone and speaker, WAV files or a simulated caller on a carrier line to the engine."""
