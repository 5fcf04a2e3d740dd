"""Simulated order flow with planted squeezes, and exchanges on loopback that speak real wire formats."""
