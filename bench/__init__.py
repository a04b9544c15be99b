"""Speed and memory beside yardsticks of the same run: see docs/performance.md."""
