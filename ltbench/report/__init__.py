"""From stored results to leaderboards. Imports no torch."""
