"""OpenAI's sound: transcription by utterance and streaming, and speech."""
