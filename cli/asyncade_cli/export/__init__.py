"""``asyncade export``: a trained model as the Hugging Face hub expects one.

``command`` writes the folder, ``card`` its README.md, ``onnx_graph`` the network for other
runtimes.
"""
