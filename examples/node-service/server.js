const express = require("express");

const app = express();
app.get("/", (request, response) => response.type("text").send("Node says hello\n"));
const server = app.listen(3000);
process.on("SIGTERM", () => server.close(() => process.exit(0)));
