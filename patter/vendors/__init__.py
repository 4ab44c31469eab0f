"""All vendors on this machine: `python -m patter.vendors` plays OpenAI, Deepgram and ElevenLabs on one loopback port.

The package owns what they hear, think and say when an agent is rehearsed without keys; it refuses to be reached from elsewhere.
"""
