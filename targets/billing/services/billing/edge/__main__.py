from billing.edge.service import main

main()
