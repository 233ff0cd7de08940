"""The methods of ltbench, one file each; a file's name is the method's name."""
