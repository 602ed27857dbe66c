// Where the page begins.
import { render } from "preact";
import { App } from "./app";
import { connect } from "./store/connection";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/shell.css";
import "./styles/parts.css";
import "./styles/overview.css";
import "./styles/topology.css";
import "./styles/batches.css";
import "./styles/data.css";

const place = document.getElementById("app");
if (place) render(<App />, place);
connect();
