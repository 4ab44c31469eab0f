"""Patter."""
