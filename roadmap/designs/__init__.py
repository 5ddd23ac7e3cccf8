"""What is known of a design without building it: its rows, its cost, designs of equal cost, spaces of designs."""
