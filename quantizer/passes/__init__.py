"""Pure Graph -> Graph functions, one file each."""
