"""``asyncade report``: runs as one HTML file that needs nothing else.

``runs`` reads what is shown, ``films`` plays the checkpoints, ``charts`` and ``parts`` draw, and
``page`` puts it together.
"""
