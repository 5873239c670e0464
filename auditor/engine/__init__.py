"""Running an audit: choosing samples, driving suites, keeping what arrives, deciding."""
