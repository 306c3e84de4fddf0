"""The command line: runs services as processes on this machine and shows what they do."""
