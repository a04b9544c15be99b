"""`forestall controller`: what one replica does for all: certificates, webhook configurations, LimitRanges, gaps."""
