"""Agentfile."""
