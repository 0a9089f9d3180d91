"""What a GPU has to show: correct numbers first, then speed. ``make gpu-check`` on a machine that has one."""
