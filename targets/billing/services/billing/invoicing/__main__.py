"""``python -m billing.invoicing``."""

from billing.invoicing.service import main

if __name__ == "__main__":
    main()
