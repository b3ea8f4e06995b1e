"""Distillation: frozen teachers, alignment losses, and the models that learn from a teacher."""
