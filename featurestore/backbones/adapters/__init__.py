"""One adapter a model library: timm, transformers, open_clip, torchvision."""
