"""The live page of a run: the game as the newest weights play it, and how the run goes."""
