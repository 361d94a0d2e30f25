"""`adaptx race`: which optimizer and learning rate suit a problem."""
