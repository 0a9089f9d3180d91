"""What people use to embed a folder of pictures, each as one small program that `peer_extraction` starts and times."""
