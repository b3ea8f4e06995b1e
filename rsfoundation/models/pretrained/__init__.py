"""Published weights: catalogue, download, and loading under the names of our backbones."""
