"""`adaptx plan`: what a model and an optimizer will take, before they take it."""
