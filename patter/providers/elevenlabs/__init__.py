"""ElevenLabs: text-to-speech over HTTP and WebSocket, its voices, and the way to its stored agents."""
