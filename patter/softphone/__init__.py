"""Softphone."""
