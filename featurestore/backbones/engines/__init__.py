"""What runs a backbone, and in which arithmetic: torch or OpenVINO."""
