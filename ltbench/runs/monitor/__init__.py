"""What watches runs: heartbeats, the table of ltbench watch, TensorBoard."""
