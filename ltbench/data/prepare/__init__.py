"""ltbench data prepare: download and unpack."""
