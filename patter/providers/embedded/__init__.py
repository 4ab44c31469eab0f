"""Engines that run inside the process, with no key and no network: voice detection, turn end, recognition, voice.

The package owns their models and threads; it refuses to know calls. Nothing heavy is imported until an engine is used.
"""
