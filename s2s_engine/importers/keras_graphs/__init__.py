"""Keras's stored layer graphs as models: layers and tensors, what each layer computes, and the
decoder that ran over a whole target made a step."""
