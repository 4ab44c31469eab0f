"""Sound as plain values: formats, G.711, resampling, pacing and voice-detection maths. No sockets, no clock, no loop."""
