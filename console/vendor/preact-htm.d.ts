export { Component, createContext, h, render } from 'preact';
export * from 'preact/hooks';
export { html } from 'htm/preact';
