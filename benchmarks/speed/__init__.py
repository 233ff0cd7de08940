"""How fast ltbench is: contests with a reference loop, benchmarks, and how cost grows."""
